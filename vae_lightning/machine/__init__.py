"""What has to be said to the system, to a terminal and to torch; files that are whole or not there."""

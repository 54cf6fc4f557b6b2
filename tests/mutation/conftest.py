"""What is here needs cosmic-ray, and is no test but runs tests."""

collect_ignore_glob = ["*.py"]

"""Estimates and figures as JSON, Markdown, HTML, and in a terminal."""

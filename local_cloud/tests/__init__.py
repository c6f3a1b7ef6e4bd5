"""Tests of the local cloud that need no cloud: its processes are short-lived scripts."""

"""Tests of the deployment that need neither AWS nor a local cloud."""

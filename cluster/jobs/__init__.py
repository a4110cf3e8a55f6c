"""Runs as jobs of a Ray cluster: sent, followed, listed, stopped. Ray's job client has one home, `client.py`."""

"""How Floodgate is run: processes on one machine (local), and the sandbox payment provider."""

"""Load scenarios against the running stack, each of which checks its own result."""

"""A job in a process of its own: `client.Worker` starts it and talks to it, `server` and `segmenting` run there."""

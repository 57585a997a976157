"""From a card to networks that run, and from the files of others to a card."""

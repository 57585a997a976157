"""Steps after the network: each changes labels in place, and a card names those that it needs, in their order."""

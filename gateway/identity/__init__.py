"""What stands behind pattern 4: who the users are, and how Google, Apple and we vouch for them."""

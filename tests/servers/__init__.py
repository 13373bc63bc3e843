"""Real servers for the tests, and the broken network between."""

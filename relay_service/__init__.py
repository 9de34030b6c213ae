"""CARRY IT OVER: committed outbox messages, verified, to the broker."""

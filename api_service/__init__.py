"""WRITE IT DOWN: task and outbox message in one transaction, over HTTP."""

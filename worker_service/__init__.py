"""DO IT ONCE: find the task, take the lease, generate, commit the result."""

"""What the replicas of a router share, so that many decide as one."""

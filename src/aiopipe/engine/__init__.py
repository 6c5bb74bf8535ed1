"""Runs plans: channels between stages, pools for their work, one TaskGroup for everything."""

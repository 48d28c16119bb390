"""The staff's pages of webhook deliveries."""

"""The staff's pages over sharded rows, which Django's ModelAdmin cannot list."""

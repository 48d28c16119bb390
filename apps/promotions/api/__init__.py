"""Flash sales and coupons over HTTP: what there is to see, and the way in."""

"""Scripts' way to coupons."""

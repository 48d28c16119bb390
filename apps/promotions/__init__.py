"""Flash sales: what is sold when, to whom and at what price, and the units that each shard may sell."""

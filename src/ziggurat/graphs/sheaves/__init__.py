"""Networks that carry features over edges through linear maps: sheaves on graphs."""

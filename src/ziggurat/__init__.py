"""ziggurat: published methods of representation learning under one contract, each with its claim measured."""

"""Networks that produce vectors, how they are loaded, and the engines that run them."""

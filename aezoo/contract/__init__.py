"""What a plugin may say, and what must be true of it; and the recipe, which is equal for all."""

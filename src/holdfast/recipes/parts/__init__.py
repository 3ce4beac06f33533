"""What a recipe is made of: objective, rollouts, teacher, penalty, and settings that change between steps."""

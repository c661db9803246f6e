"""What a method is: its model, objective, evaluator and what is reported of it."""

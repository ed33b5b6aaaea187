"""Complete sequential trainers; ray_trainable alone knows Ray, and none Optuna or MLflow."""

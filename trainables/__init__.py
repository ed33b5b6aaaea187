"""Complete sequential trainers; nothing here but ray_trainable knows Ray, Optuna or MLflow."""

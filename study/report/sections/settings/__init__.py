"""What tasks, rank and searched keys do, when the free space runs out, and interference."""

"""What only this book needs: data, networks and their training, evidence and claims, exercises, kept results."""

from . import check, evidence, models, ranking, subjects, zoo

__all__ = ["check", "evidence", "models", "ranking", "subjects", "zoo"]

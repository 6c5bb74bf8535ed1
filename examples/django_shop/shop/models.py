"""One model."""

from django.db import models


class Order(models.Model):
    """An order, known by the number that the shop gave it."""

    number = models.CharField(max_length=20, unique=True)
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    placed = models.DateField(null=True)
    paid = models.BooleanField(default=False)

"""`python manage.py load_orders FILE ...`: orders into the database, good ones only, safe to run again."""

from django.core.management.base import BaseCommand

from aiopipe import Filter, Read, Write
from aiopipe.django import Save
from shop.models import Order


class Command(BaseCommand):
    """Load orders; those without an amount are left out, malformed records set aside."""

    help = "load orders from CSV files"

    def add_arguments(self, parser):
        """The files."""
        parser.add_argument("files", nargs="+")
        parser.add_argument("--rejects", default="rejects.csv")

    def handle(self, *args, files, rejects, **options):
        """Run the pipeline in this thread."""
        save = Save(Order, update_conflicts=True, unique_fields=["number"], update_fields=["amount", "placed", "paid"])
        pipeline = Read(files) | Filter("amount IS NOT NULL") | Write(save, batch=500)
        report = pipeline.run_sync(rejects=rejects)
        self.stdout.write(f"{report.written} written, {report.filtered} without an amount, {report.rejected} set aside")

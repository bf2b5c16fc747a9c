"""What trains a user's adapter or expert beside their checkpoint: loop, flow-matching loss, folders of videos."""

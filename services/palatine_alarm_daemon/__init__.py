"""Journalled, acknowledged alarms: the alarm-daemon."""

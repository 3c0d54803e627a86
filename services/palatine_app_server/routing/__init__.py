"""uWSGI's internal routing: rules, conditions, actions."""

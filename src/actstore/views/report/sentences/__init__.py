"""Every sentence of a report, made from its tables: functions of tables and settings alone, which return text."""

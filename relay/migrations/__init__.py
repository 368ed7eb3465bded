"""Schema migrations. Each revision's name is a number, one higher than the last: `0001`, `0002`, …"""

"""Files for other systems that show and watch tokenyield: Grafana dashboards, Prometheus rules, a compose file."""

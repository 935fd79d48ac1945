"""What other systems need to show and watch tokenyield: Grafana dashboards, Prometheus rules, a compose file."""

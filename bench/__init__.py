"""What dropout costs, beside what moving the bytes costs. See docs/performance.md."""

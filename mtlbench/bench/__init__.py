"""From a request to stored runs: the plan, the jobs, the processes that carry them out, and tuning."""

"""What keeps a failing or slow replica from harming its callers: breaker, limiter, retry, choice of replica."""

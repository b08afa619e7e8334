"""What is live: releases, rollouts, experiments."""

"""Many runs of one configuration with other values: Ray Tune over Ray Train"""

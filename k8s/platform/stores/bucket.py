"""Make MLflow's bucket where it is missing. Ends with an error while the store is not up."""

import os
from contextlib import suppress
from urllib.parse import urlsplit

import boto3


def main() -> None:
    """The bucket is that of MLFLOW_ARTIFACTS_DESTINATION, the store MLFLOW_S3_ENDPOINT_URL's."""
    bucket = urlsplit(os.environ["MLFLOW_ARTIFACTS_DESTINATION"]).netloc
    store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    with suppress(store.exceptions.BucketAlreadyOwnedByYou):
        if bucket not in [one["Name"] for one in store.list_buckets()["Buckets"]]:
            store.create_bucket(Bucket=bucket)
    print(f"bucket {bucket} is there")


if __name__ == "__main__":
    main()

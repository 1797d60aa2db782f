"""Make MLflow's bucket where it is missing. Ends with an error while the store is not up."""

import os
import sys
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def main() -> None:
    """The bucket is that of MLFLOW_ARTIFACTS_DESTINATION, the store MLFLOW_S3_ENDPOINT_URL's."""
    bucket = urlsplit(os.environ["MLFLOW_ARTIFACTS_DESTINATION"]).netloc
    endpoint = os.environ["MLFLOW_S3_ENDPOINT_URL"]
    try:
        make_bucket(boto3.client("s3", endpoint_url=endpoint), bucket)
    except ClientError as error:
        sys.exit(
            f"bucket {bucket}: {endpoint} refuses the keys of the Secret fbt-object-store, or what "
            f"they may do: {error}"
        )
    except BotoCoreError as error:
        sys.exit(f"bucket {bucket}: {endpoint} is not up yet, or not there: {error}")
    print(f"bucket {bucket} is there")


def make_bucket(store: Any, bucket: str) -> None:
    with suppress(store.exceptions.BucketAlreadyOwnedByYou):
        if bucket not in [one["Name"] for one in store.list_buckets()["Buckets"]]:
            store.create_bucket(Bucket=bucket)


if __name__ == "__main__":
    main()

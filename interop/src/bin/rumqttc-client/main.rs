//! rumqttc behind lines of JSON: requests on standard input, reports on standard output. `run.py` drives it.

mod requests;
mod version_3_1_1;
mod version_5_0;

use std::io::{self, BufRead as _};

use requests::Request;

/// What a client fails with: this is a test's program, and the text is all that is looked at.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut requests = io::stdin().lock().lines().map(|line| Request::parse(&line?));
    match requests.next().transpose()? {
        Some(Request::Connect(connect)) if connect.version == "3.1.1" => version_3_1_1::run(&connect, requests),
        Some(Request::Connect(connect)) if connect.version == "5.0" => version_5_0::run(&connect, requests),
        first => Err(format!("begins with connect, version 3.1.1 or 5.0, and not with {first:?}").into()),
    }
}

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the number of file descriptors this process may open as far as it is allowed to; returns the number, `None`
/// if there is no limit.
///
/// Many systems allow 1,024 unless asked, which is also the number of connections a broker could then have.
pub fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

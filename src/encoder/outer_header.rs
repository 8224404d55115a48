//! The outer IP header of a plain packet.

use crate::net::{IpVersion, OuterHeader};
use crate::sa::table::PreparedSa;

/// The outer header that `to` puts before a plain packet with the header `inner`. In tunnel mode it is a new one,
/// between the addresses of `tunnel_ip`. Returns `None` if the SA has no context, or uses tunnel mode without
/// `tunnel_ip`.
pub(crate) fn outer_header(to: &PreparedSa, inner: &OuterHeader) -> Option<OuterHeader> {
    let context = to.context.as_ref()?;
    if !to.is_tunnel() {
        return Some(*inner);
    }
    let (src, dst) = context.tunnel_ip?;
    Some(OuterHeader { version: IpVersion::of(src), src, dst, ..*inner })
}

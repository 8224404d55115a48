//! The outer IP header of a plain packet.

use crate::net::{IpVersion, OuterHeader};
use crate::sa::table::PreparedSa;

/// The outer header in which `to` sends a plain packet with the header `inner`: in tunnel mode a new one, between the
/// addresses of `tunnel_ip`. `None` if the SA has no context, or is a tunnel without `tunnel_ip`.
pub(crate) fn outer_header(to: &PreparedSa, inner: &OuterHeader) -> Option<OuterHeader> {
    let context = to.context.as_ref()?;
    if !to.is_tunnel() {
        return Some(*inner);
    }
    let (src, dst) = context.tunnel_ip?;
    Some(OuterHeader { version: IpVersion::of(src), src, dst, ..*inner })
}

//! Names of environ keys that are known in advance.
//!
//! The event loop writes a known name as one byte; the Python side maps that byte to an interned
//! string. A name that is not in the table travels as its bytes.

/// The key of one environ entry, as it stands in the arena of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// Index into [`KNOWN`].
    Known(u8),
    /// Any other key, already in its CGI form (`HTTP_X_FORWARDED_FOR`).
    Other(&'a [u8]),
}

impl<'a> Name<'a> {
    /// The key's bytes, known or not.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Name::Known(index) => KNOWN[index as usize].as_bytes(),
            Name::Other(bytes) => bytes,
        }
    }
}

macro_rules! known {
    ($($id:ident),+ ; $($header:literal => $http:ident),+ $(,)?) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        #[repr(u8)]
        enum Index { $($id,)+ $($http,)+ }

        /// Known environ keys; [`Name::Known`] counts from 0.
        pub const KNOWN: &[&str] = &[$(stringify!($id),)+ $(stringify!($http),)+];

        $(
            #[doc = concat!("The environ key `", stringify!($id), "`.")]
            pub const $id: Name<'static> = Name::Known(Index::$id as u8);
        )+

        $(
            #[doc = concat!("The environ key `", stringify!($http), "`.")]
            pub const $http: Name<'static> = Name::Known(Index::$http as u8);
        )+

        /// The environ key of a request header, from its lower-case name; `None` when it is not a known one.
        pub fn of_header(lower: &[u8]) -> Option<Name<'static>> {
            // The compiler turns this into a switch on the length, then one comparison or two.
            const BYTES: &[(&[u8], u8)] = &[$(($header.as_bytes(), Index::$http as u8)),+];
            BYTES.iter().find(|(name, _)| *name == lower).map(|&(_, index)| Name::Known(index))
        }
    };
}

known! {
    REQUEST_METHOD, SCRIPT_NAME, PATH_INFO, QUERY_STRING, CONTENT_TYPE, CONTENT_LENGTH,
    SERVER_NAME, SERVER_PORT, SERVER_PROTOCOL, REQUEST_URI, DOCUMENT_ROOT, REMOTE_ADDR,
    REMOTE_PORT, SERVER_ADDR, REQUEST_SCHEME, HTTPS, REMOTE_USER, AUTH_TYPE, SERVER_SOFTWARE ;
    "host" => HTTP_HOST,
    "user-agent" => HTTP_USER_AGENT,
    "accept" => HTTP_ACCEPT,
    "accept-encoding" => HTTP_ACCEPT_ENCODING,
    "accept-language" => HTTP_ACCEPT_LANGUAGE,
    "connection" => HTTP_CONNECTION,
    "cookie" => HTTP_COOKIE,
    "referer" => HTTP_REFERER,
    "origin" => HTTP_ORIGIN,
    "cache-control" => HTTP_CACHE_CONTROL,
    "authorization" => HTTP_AUTHORIZATION,
    "if-modified-since" => HTTP_IF_MODIFIED_SINCE,
    "if-none-match" => HTTP_IF_NONE_MATCH,
    "range" => HTTP_RANGE,
    "pragma" => HTTP_PRAGMA,
    "dnt" => HTTP_DNT,
    "upgrade-insecure-requests" => HTTP_UPGRADE_INSECURE_REQUESTS,
    "x-requested-with" => HTTP_X_REQUESTED_WITH,
    "x-forwarded-for" => HTTP_X_FORWARDED_FOR,
    "x-forwarded-proto" => HTTP_X_FORWARDED_PROTO,
    "x-forwarded-host" => HTTP_X_FORWARDED_HOST,
    "x-real-ip" => HTTP_X_REAL_IP,
    "x-request-id" => HTTP_X_REQUEST_ID,
    "x-csrftoken" => HTTP_X_CSRFTOKEN,
    "sec-fetch-site" => HTTP_SEC_FETCH_SITE,
    "sec-fetch-mode" => HTTP_SEC_FETCH_MODE,
    "sec-fetch-user" => HTTP_SEC_FETCH_USER,
    "sec-fetch-dest" => HTTP_SEC_FETCH_DEST,
    "sec-ch-ua" => HTTP_SEC_CH_UA,
    "sec-ch-ua-mobile" => HTTP_SEC_CH_UA_MOBILE,
    "sec-ch-ua-platform" => HTTP_SEC_CH_UA_PLATFORM,
    "priority" => HTTP_PRIORITY,
    "te" => HTTP_TE,
    "expect" => HTTP_EXPECT,
}

/// What differs from request to request, or is better not kept beyond its own.
const CHANGING: [Name<'static>; 18] = [
    AUTH_TYPE,
    CONTENT_LENGTH,
    HTTP_AUTHORIZATION,
    HTTP_COOKIE,
    HTTP_IF_MODIFIED_SINCE,
    HTTP_IF_NONE_MATCH,
    HTTP_RANGE,
    HTTP_REFERER,
    HTTP_X_CSRFTOKEN,
    HTTP_X_FORWARDED_FOR,
    HTTP_X_REAL_IP,
    HTTP_X_REQUEST_ID,
    PATH_INFO,
    QUERY_STRING,
    REMOTE_ADDR,
    REMOTE_PORT,
    REMOTE_USER,
    REQUEST_URI,
];

/// Whether the next request is likely to have the same value.
pub const fn is_stable(name: Name<'_>) -> bool {
    const STABLE: [bool; KNOWN.len()] = {
        let mut stable = [true; KNOWN.len()];
        let mut index = 0;
        while index < CHANGING.len() {
            if let Name::Known(known) = CHANGING[index] {
                stable[known as usize] = false;
            }
            index += 1;
        }
        stable
    };
    match name {
        Name::Known(index) => (index as usize) < STABLE.len() && STABLE[index as usize],
        Name::Other(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_round_trip() {
        assert_eq!(PATH_INFO.bytes(), b"PATH_INFO");
        assert_eq!(of_header(b"user-agent").unwrap().bytes(), b"HTTP_USER_AGENT");
        assert_eq!(of_header(b"x-unheard-of"), None);
        assert!(KNOWN.len() < 255, "one byte is the mark of an unknown name");
    }

    #[test]
    fn every_known_header_has_its_cgi_name() {
        for key in KNOWN.iter().filter(|key| key.starts_with("HTTP_")) {
            let header = key[5..].to_ascii_lowercase().replace('_', "-");
            assert_eq!(of_header(header.as_bytes()).map(|name| name.bytes()), Some(key.as_bytes()));
        }
    }
}

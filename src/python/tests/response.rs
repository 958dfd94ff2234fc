//! What becomes of an application's response.

use super::harness::ask;

#[test]
fn a_list_travels_as_one_message() {
    let reply = ask("hello").run();
    assert_eq!(reply.status(), "200 OK");
    assert_eq!(reply.fields(), ["Content-Type: text/plain"]);
    assert_eq!(reply.text(), "Hello, world!\n");
    assert_eq!(reply.messages(), [(true, 14, true)]);
    assert!(reply.is_complete());
}

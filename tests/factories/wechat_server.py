"""A server in the test's process that speaks WeChat Pay's API v3: checks the merchant's signature, gives its own."""

import csv
import gzip
import io
import json
import re
import secrets
import threading
import time
from base64 import b64decode, b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

MERCHANT = "1230000109"
API_V3_KEY = "0123456789abcdef0123456789abcdef"
PUBLIC_KEY_ID = "PUB_KEY_ID_0112300001090000000000000000000000"
_AUTHORIZATION = re.compile(
    r'WECHATPAY2-SHA256-RSA2048 mchid="([^"]+)",nonce_str="([^"]+)",signature="([^"]+)",timestamp="([^"]+)",'
    r'serial_no="([^"]+)"'
)


class WeChatServer:
    """The merchant's trades and refunds; `status` makes every answer fail, `forged` signs with another key."""

    def __init__(self) -> None:
        self.merchant_key = generate_private_key(65537, 2048)
        self.platform_key = generate_private_key(65537, 2048)
        self.trades: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}
        self.status, self.forged, self.delay_s = 200, False, 0.0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                time.sleep(server.delay_s)
                status, answer = server.answer(self.command, self.path, body, self.headers["Authorization"])
                is_file = isinstance(answer, bytes)
                content = answer if is_file else b"" if status == 204 else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/octet-stream" if is_file else "application/json")
                self.send_header("Content-Length", str(len(content)))
                if not is_file:
                    for name, value in server.signature(content.decode()).items():
                        self.send_header(name, value)
                with suppress(ConnectionError):  # the client has given up by then
                    self.end_headers()
                    self.wfile.write(content)

            do_GET = do_POST = _answer  # noqa: N815

            def log_message(self, *args: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def options(self) -> dict[str, Any]:
        """Return the options of the provider that talks to this server."""
        private = self.merchant_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = self.platform_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return {
            "class": "apps.payments.providers.wechat.WeChatProvider",
            "account": MERCHANT,
            "app_id": "wxd678efh567hg6787",
            "api_v3_key": API_V3_KEY,
            "private_key": private.decode(),
            "certificate_serial": "444F4864EA9B34415",
            "public_key": public.decode(),
            "public_key_id": PUBLIC_KEY_ID,
            "notify_url": "https://shop.example/api/v1/payments/callbacks/wechat",
            "connect_timeout_s": 1.0,
            "read_timeout_s": 0.5,
            "max_age_s": 300,
            "url": self.url,
        }

    def signature(self, body: str, *, key: RSAPrivateKey | None = None, at_s: float | None = None) -> dict[str, str]:
        """Return the headers that sign a body: three lines, timestamp, nonce and body, by RSA with SHA-256."""
        at, nonce = str(int(time.time() if at_s is None else at_s)), secrets.token_hex(16)
        signer = key or (self.merchant_key if self.forged else self.platform_key)
        signature = signer.sign(f"{at}\n{nonce}\n{body}\n".encode(), PKCS1v15(), SHA256())
        return {
            "Wechatpay-Serial": PUBLIC_KEY_ID,
            "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
            "Wechatpay-Timestamp": at,
            "Wechatpay-Nonce": nonce,
            "Wechatpay-Signature": b64encode(signature).decode(),
        }

    def delivery(
        self, contents: dict[str, Any], kind: str, *, event_id: str | None = None, **signing: Any
    ) -> tuple[bytes, dict[str, str]]:
        """Return body and headers of a delivery: its contents encrypted with the APIv3 key, the whole signed."""
        nonce = secrets.token_hex(6)
        sealed = AESGCM(API_V3_KEY.encode()).encrypt(nonce.encode(), json.dumps(contents).encode(), b"transaction")
        event = {
            "id": event_id or secrets.token_hex(16),
            "event_type": kind,
            "resource_type": "encrypt-resource",
            "resource": {
                "algorithm": "AEAD_AES_256_GCM",
                "ciphertext": b64encode(sealed).decode(),
                "nonce": nonce,
                "associated_data": "transaction",
            },
        }
        body = json.dumps(event)
        return body.encode(), self.signature(body, **signing)

    def pay(self, reference: str) -> dict[str, Any]:
        """Pay as the shopper who scanned the code; returns the trade."""
        self.trades[reference]["trade_state"] = "SUCCESS"
        return self.trades[reference]

    # -- the API --------------------------------------------------------------------------------------------------

    def answer(self, method: str, target: str, body: str, authorization: str) -> tuple[int, Any]:
        if not self._is_signed(method, target, body, authorization):
            return 401, {"code": "SIGN_ERROR", "message": "the signature is wrong"}
        if self.status != 200:
            return self.status, {"code": "SYSTEM_ERROR", "message": "try again"}
        asked = json.loads(body) if body else {}
        match method, urlsplit(target).path.split("/")[2:]:
            case "POST", ["pay", "transactions", "native"]:
                return self._open(asked)
            case "GET", ["pay", "transactions", "out-trade-no", name] if name in self.trades:
                return 200, self.trades[name]
            case "POST", ["pay", "transactions", "out-trade-no", name, "close"] if name in self.trades:
                if self.trades[name]["trade_state"] == "SUCCESS":
                    return 400, {"code": "ORDERPAID", "message": "paid"}
                self.trades[name]["trade_state"] = "CLOSED"
                return 204, None
            case "POST", ["refund", "domestic", "refunds"]:
                return 200, self._refund(asked)
            case "GET", ["refund", "domestic", "refunds", name] if name in self.refunds:
                return 200, self.refunds[name]
            case "GET", ["bill", "tradebill"]:
                return 200, {"download_url": f"{self.url}/v3/billdownload/file?token=x"}
            case "GET", ["billdownload", "file"]:
                return 200, self._bill()
        return 404, {"code": "ORDER_NOT_EXIST", "message": "no such order"}

    def _is_signed(self, method: str, target: str, body: str, authorization: str) -> bool:
        match = _AUTHORIZATION.fullmatch(authorization or "")
        if match is None or match[1] != MERCHANT:
            return False
        signed = f"{method}\n{target}\n{match[4]}\n{match[2]}\n{body}\n".encode()
        try:
            self.merchant_key.public_key().verify(b64decode(match[3]), signed, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True

    def _open(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = asked["out_trade_no"]
        known = self.trades.get(name)
        if known is not None and known["trade_state"] != "NOTPAY":
            code = "ORDERPAID" if known["trade_state"] == "SUCCESS" else "ORDER_CLOSED"
            return 400, {"code": code, "message": code}
        if known is not None and known["amount"] != asked["amount"]:
            return 403, {"code": "OUT_TRADE_NO_USED", "message": "used"}
        self.trades[name] = {
            "out_trade_no": name,
            "mchid": asked["mchid"],
            "trade_state": "NOTPAY",
            "amount": asked["amount"],
        }
        return 200, {"code_url": f"weixin://wxpay/bizpayurl?pr={name}"}

    def _refund(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["out_refund_no"]
        made = {"out_refund_no": name, "out_trade_no": asked["out_trade_no"], "status": "PROCESSING"}
        return self.refunds.setdefault(name, {**made, "amount": asked["amount"]})

    def _bill(self) -> bytes:
        at = (datetime.now(UTC) + timedelta(hours=8)).strftime("%Y-%m-%d %H:%M:%S")
        columns = (
            "交易时间",
            "商户订单号",
            "交易状态",
            "货币种类",
            "商户退款单号",
            "退款状态",
            "订单金额",
            "申请退款金额",
        )
        file = io.StringIO()
        writer = csv.writer(file)
        writer.writerow(columns)
        for name, trade in self.trades.items():
            if trade["trade_state"] == "SUCCESS":
                paid = f"{trade['amount']['total'] / 100:.2f}"
                writer.writerow([f"`{each}" for each in (at, name, "SUCCESS", "CNY", "0", "", paid, "0.00")])
        for name, refund in self.refunds.items():
            back = f"{refund['amount']['refund'] / 100:.2f}"
            line = (at, refund["out_trade_no"], "REFUND", "CNY", name, refund["status"], "0.00", back)
            writer.writerow([f"`{each}" for each in line])
        writer.writerow(["总交易单数", "应结订单总金额"])
        writer.writerow(["`1", "`0.00"])
        return gzip.compress(file.getvalue().encode())

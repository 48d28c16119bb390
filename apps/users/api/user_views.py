"""/users/me: profile, password, addresses."""

import json

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.users.api.authentication import current_shopper
from apps.users.api.schema import ADDRESS_ID, ADDRESS_LOCATION
from apps.users.api.serializers import (
    AddressAnswer,
    AddressListAnswer,
    AddressSerializer,
    PasswordSerializer,
    ProfileAnswer,
    ProfileSerializer,
    ProofSerializer,
)
from apps.users.selectors import get_address, get_customer, list_addresses
from apps.users.services.addresses import create_address, delete_address, replace_address
from apps.users.services.erasure import erase_customer
from apps.users.services.passwords import PasswordChange, change_password, prepare_password_change
from apps.users.services.profile import update_profile
from apps.users.services.proof import check_proof
from infra.api.client_address import client_address
from infra.api.views import ApiView, parse_id
from infra.crypto.blind_index import blind_index
from infra.idempotency.api import IdempotentMixin
from infra.idempotency.schema import OPTIONAL_KEY, replayed_header

_NO_CONTENT = 204
_CREATED = 201


class ProfileView(ApiView):
    """/users/me."""

    takes_body_on_delete = True

    @extend_schema(operation_id="get_profile", responses={200: ProfileAnswer})
    def get(self, request: Request) -> Response:
        """Return the shopper's account."""
        return Response(ProfileAnswer(get_customer(current_shopper(request).user_id)).data)

    @extend_schema(operation_id="update_profile", request=ProfileSerializer, responses={200: ProfileAnswer})
    def patch(self, request: Request) -> Response:
        """Change display name, locale or time zone."""
        body = ProfileSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        customer = update_profile(
            user_id=current_shopper(request).user_id, changes=body.validated_data, now=timezone.now()
        )
        return Response(ProfileAnswer(customer).data)

    @extend_schema(operation_id="delete_account", request=ProofSerializer, responses={204: None})
    def delete(self, request: Request) -> Response:
        """Delete the account, for good; refused while an order is under way."""
        body = ProofSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        user_id = current_shopper(request).user_id
        address = client_address(request.META)
        check_proof(user_id=user_id, proof=body.proof, address=address, now=timezone.now())
        erase_customer(user_id=user_id, actor="shopper", now=timezone.now())
        return Response(status=_NO_CONTENT)


class PasswordView(IdempotentMixin, ApiView):
    """POST /users/me/password."""

    change: PasswordChange

    @extend_schema(
        operation_id="change_password",
        request=PasswordSerializer,
        responses={204: None},
        parameters=[OPTIONAL_KEY, replayed_header(204)],
    )
    def post(self, request: Request) -> Response:
        """Change the password; all other sessions end."""
        return super().post(request)

    def key_body(self, request: Request) -> object:
        """Bind an idempotency key to a keyed digest: a plain one would let the passwords be guessed from it."""
        body = json.dumps(request.data, sort_keys=True)
        return blind_index("password-change", body)[0].digest.hex()

    def prepare(self, request: Request) -> None:
        """Check the current password and hash the new one, which is no work for a transaction."""
        body = PasswordSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        self.change = prepare_password_change(
            user_id=current_shopper(request).user_id,
            proof=body.proof,
            new=body.validated_data["new_password"],
            address=client_address(request.META),
            now=timezone.now(),
        )

    def post_once(self, request: Request) -> Response:
        """Write the change that was prepared."""
        change_password(self.change, keep_session=current_shopper(request).session_id, now=timezone.now())
        return Response(status=_NO_CONTENT)


class AddressListView(IdempotentMixin, ApiView):
    """/users/me/addresses."""

    @extend_schema(operation_id="list_addresses", responses={200: AddressListAnswer})
    def get(self, request: Request) -> Response:
        """List all addresses, the oldest first."""
        addresses = list_addresses(current_shopper(request).user_id)
        return Response(AddressListAnswer({"results": addresses, "next": None}).data)

    @extend_schema(
        operation_id="create_address",
        request=AddressSerializer,
        responses={201: AddressAnswer},
        parameters=[OPTIONAL_KEY, replayed_header(201), ADDRESS_LOCATION],
    )
    def post(self, request: Request) -> Response:
        """Add an address."""
        return super().post(request)

    def post_once(self, request: Request) -> Response:
        """Add an address."""
        body = AddressSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        address = create_address(
            user_id=current_shopper(request).user_id,
            fields=body.address,
            is_limited=not current_shopper(request).exempt,
            now=timezone.now(),
        )
        headers = {"Location": f"{request.path}/{address.id}"}
        return Response(AddressAnswer(address).data, status=_CREATED, headers=headers)


class AddressView(ApiView):
    """/users/me/addresses/{id}."""

    @extend_schema(operation_id="get_address", parameters=[ADDRESS_ID], responses={200: AddressAnswer})
    def get(self, request: Request, address_id: str) -> Response:
        """Return an address."""
        return Response(
            AddressAnswer(get_address(current_shopper(request).user_id, parse_id(address_id, what="address"))).data
        )

    @extend_schema(
        operation_id="replace_address",
        parameters=[ADDRESS_ID],
        request=AddressSerializer,
        responses={200: AddressAnswer},
    )
    def put(self, request: Request, address_id: str) -> Response:
        """Write all fields of an address anew."""
        body = AddressSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        address = replace_address(
            user_id=current_shopper(request).user_id,
            address_id=parse_id(address_id, what="address"),
            fields=body.address,
            now=timezone.now(),
        )
        return Response(AddressAnswer(address).data)

    @extend_schema(operation_id="delete_address", parameters=[ADDRESS_ID], responses={204: None})
    def delete(self, request: Request, address_id: str) -> Response:
        """Delete an address; orders placed with it keep it."""
        delete_address(
            user_id=current_shopper(request).user_id,
            address_id=parse_id(address_id, what="address"),
            now=timezone.now(),
        )
        return Response(status=_NO_CONTENT)
